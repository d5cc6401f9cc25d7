"""How a training of grasping is configured, what stages it has, and how a stored configuration is read."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from handeye.envs.grasp_policies import Oracle, Scripted
from handeye.envs.grasping import GraspConfig
from handeye.errors import Misuse, need, need_one_of, need_unset
from handeye.qtopt.acting import NoiseConfig
from handeye.qtopt.actions import ActionBounds
from handeye.qtopt.cem import MaximiserConfig
from handeye.qtopt.networks import CompactConfig
from handeye.qtopt.paper_network import SIZE_PX
from handeye.qtopt.run_local import RunConfig
from handeye.qtopt.workers import LabelConfig, LearnConfig, PolicyOf

CONTROL = "control"
"""The stage in which control on the true Θ is trained."""
Observe = Literal["image", "objects", "both"]
GUIDES: dict[str, PolicyOf] = {"oracle": lambda env, rngs: Oracle(env), "scripted": Scripted}
"""Policies of the world, built for an environment and a generator for each of its bins."""


@dataclass(frozen=True)
class PriorConfig:
    """Control on the true Θ, before it sees through the bottleneck; the rest is as in the main training.

    Raises ValueError for values that make no training.
    """

    rounds: int = 0
    """0: none; control begins untrained."""
    updates: int = 60
    learn: LearnConfig = LearnConfig(batch=256, learning_rate=1e-3, average_rate=0.01)

    def __post_init__(self) -> None:
        need(self, ("rounds", "updates"), 0, 1_000_000)


@dataclass(frozen=True)
class GraspLearning:
    """One training of grasping, whole. Raises ValueError for values that make none."""

    env: GraspConfig = field(default_factory=GraspConfig)
    network: Literal["state", "picture", "paper"] = "picture"
    """`state`: the true Θ; `picture`: small pictures; `paper`: the paper's, for 472×472 pictures."""
    net: CompactConfig = CompactConfig()
    """Of `state` and `picture`."""
    guide: Literal["oracle", "scripted"] = "oracle"
    """Whom exploration follows where it is guided."""
    run: RunConfig = RunConfig()
    labels: LabelConfig = LabelConfig()
    learn: LearnConfig = LearnConfig()
    prior: PriorConfig = PriorConfig()
    """Of `net.sight` bottleneck."""
    noise: NoiseConfig = NoiseConfig()
    collecting: MaximiserConfig = MaximiserConfig()
    """How actions are chosen in collecting."""
    acting: MaximiserConfig = MaximiserConfig()
    """How they are chosen in evaluations, and at last."""
    members: int = 1
    """Networks whose logits are averaged when it counts: see qtopt/members.py."""
    together: bool = False
    """Whether members learn at once from the same rounds; else each is trained from nothing by a seed of its own."""
    both_ways: bool = False
    """Whether evaluations, and the policy at last, ask the network about the mirror image too: see qtopt/mirror.py."""
    logs: tuple[str, ...] = ()
    """Folders of `handeye collect` that the memory of scripted and guided episodes begins with."""
    start: str = ""
    """A checkpoint whose weights the network begins with; empty: untrained."""

    def __post_init__(self) -> None:
        need_one_of(self, "network", ("state", "picture", "paper"))
        need_one_of(self, "guide", tuple(GUIDES))
        need(self, ("members",), 1, 100)
        if self.together and self.members < 2:
            raise Misuse(f"together needs members of 2 or more, got {self.members}: give --no-together")
        view = self.env.view
        if self.network == "picture" and self.net.merge == "spatial" and not self._knows_places:
            raise Misuse(
                "net.merge=spatial needs env.view.camera=follow, or shoulder with env.show_pose, got "
                f"{self.env.view.camera} and {self.env.show_pose}"
            )
        if self.network == "paper" and (view.height_px, view.width_px) != (SIZE_PX, SIZE_PX):
            raise Misuse(f"network=paper needs pictures of {SIZE_PX}×{SIZE_PX}, got {view.height_px}×{view.width_px}")
        need_unset(self.env, ("observe",), "env")
        objects, nearest = self.env.world.objects, self.net.nearest
        if (self.network == "state" or self._tells) and nearest > objects:
            raise Misuse(f"net.nearest must be in 1 … {objects}, the objects in a bin, got {nearest}")
        self._need_mirror()
        self._need_stages()

    def _need_mirror(self) -> None:
        """Raises: Misuse for a mirror image of what is not alike on both sides."""
        camera = self.env.view.camera
        alike = camera == "follow" or self.network == "state"
        if self.labels.mirror and not alike:
            raise Misuse(f"labels.mirror needs env.view.camera=follow, got {camera}")
        if self.both_ways and (self.network == "state" or not alike):
            raise Misuse(
                f"both_ways needs pictures by env.view.camera=follow, got {self.network}, {camera}: give --no-both-ways"
            )

    def _need_stages(self) -> None:
        """Raises: Misuse for stages that have nothing to do or nothing to begin with."""
        if self.prior.rounds and (self.network, self.net.sight) != ("picture", "bottleneck"):
            raise Misuse(f"prior.rounds needs net.sight=bottleneck, got {self.network} and {self.net.sight}")
        if self.prior.rounds and self.start:
            raise Misuse(f"start={self.start} brings its own control: give prior.rounds=0")
        if not self.run.collect and not self.logs:
            raise Misuse("run.collect=False leaves nothing to learn from: give --logs")
        if self.run.sight_rounds and not self._tells:
            raise Misuse(f"run.sight_rounds needs net.sight=aux or bottleneck, got {self.network} and {self.net.sight}")

    @property
    def _knows_places(self) -> bool:
        """Whether it is known where in a picture a displacement leads."""
        camera = self.env.view.camera
        return camera == "follow" or (camera == "shoulder" and self.env.show_pose)

    @property
    def _tells(self) -> bool:
        """Whether the network tells Θ̂."""
        return self.network == "picture" and self.net.sight != "pixels"

    @property
    def observed(self) -> GraspConfig:
        """The environment, observed as training needs it: what the simulator knows is a label, never an input."""
        observe: Observe = "objects" if self.network == "state" else "both" if self._tells else "image"
        return dataclasses.replace(self.env, observe=observe)

    @property
    def alone(self) -> "GraspLearning":
        """The training of one member."""
        return dataclasses.replace(self, members=1, together=False)

    @property
    def bounds(self) -> ActionBounds:
        return bounds_of(self.env)


def bounds_of(env: GraspConfig) -> ActionBounds:
    """What an action may be in this environment."""
    return ActionBounds(env.move_m, env.turn_rad, env.termination == "learned")


def control_of(config: GraspLearning) -> GraspLearning | None:
    """The training of control on the true Θ that comes first, if one does; it is the same for all ways of seeing."""
    prior, usual = config.prior, CompactConfig()
    if not prior.rounds:
        return None
    first = min(config.run.first_rounds, prior.rounds)
    far = min(config.run.far_rounds, prior.rounds - first)
    run = dataclasses.replace(
        config.run, rounds=prior.rounds, updates=prior.updates, first_rounds=first, sight_rounds=0, far_rounds=far,
        far_steps=config.run.far_steps if far else RunConfig.far_steps,
    )  # fmt: skip
    net = dataclasses.replace(config.net, sight=usual.sight, channels=usual.channels, beta=usual.beta)
    return dataclasses.replace(
        config.alone, network="state", net=net, run=run, learn=prior.learn, prior=PriorConfig(), both_ways=False
    )


def trainings(config: GraspLearning) -> dict[str, GraspLearning]:
    """What each stage trains, in order."""
    control = control_of(config)
    of = config if config.together else config.alone
    return ({CONTROL: control} if control else {}) | dict.fromkeys(member_stages(config), of)


def member_stages(config: GraspLearning) -> list[str]:
    """The names of the stages that train a member each, or all."""
    apart = 1 if config.together else config.members
    return ["qtopt", *(f"qtopt-{number}" for number in range(2, apart + 1))]


def read_config(values: dict[str, Any]) -> GraspLearning:
    """A configuration from the nested dictionary that `dataclasses.asdict` makes of it."""
    return _read(GraspLearning, values)


def _read(kind: Any, values: dict[str, Any]) -> Any:
    """A dataclass from a nested dictionary of its fields; what an older version did not have is as by default.

    Raises: KeyError for other fields.
    """
    default = kind()
    unknown = values.keys() - {f.name for f in dataclasses.fields(kind)}
    if unknown:
        raise KeyError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    parts = {name: getattr(default, name) for name in values}
    nested = {name: _read(type(part), values[name]) for name, part in parts.items() if dataclasses.is_dataclass(part)}
    plain = {name: tuple(value) if isinstance(parts[name], tuple) else value for name, value in values.items()}
    return kind(**plain | nested)
