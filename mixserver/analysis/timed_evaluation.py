"""One mixed evaluation with the time that each model took, outside of any trajectory."""

from __future__ import annotations

from typing import NamedTuple

from mixserver.core.frame import Frame
from mixserver.dispatch.dispatcher import Dispatcher
from mixserver.mixing.jobs import Plan
from mixserver.mixing.mixer import MixedResult, Mixer, Results
from mixserver.region.region import Region
from mixserver.wire.worker import Role


class Times(NamedTuple):
    """Seconds until the last result of each model; both work at the same time."""

    cheap: float
    expensive: float

    @property
    def longest(self) -> float:
        """Seconds of the slower model, which is what an evaluation takes."""
        return max(self.cheap, self.expensive)


async def timed_results(dispatcher: Dispatcher, plan: Plan) -> tuple[Results, Times]:
    """The results of a plan's jobs, and how long each model took, waiting for workers included."""
    jobs = list(plan)
    replies = await dispatcher.run([(key.role, job) for key, job in jobs])
    took: dict[Role, float] = {"cheap": 0.0, "expensive": 0.0}
    for (key, _), reply in zip(jobs, replies, strict=True):
        took[key.role] = max(took[key.role], reply.waited_s + reply.took_s)
    results = {key: reply.result for (key, _), reply in zip(jobs, replies, strict=True)}
    return results, Times(took["cheap"], took["expensive"])


async def timed_evaluation(
    dispatcher: Dispatcher, mixer: Mixer, frame: Frame, region: Region
) -> tuple[MixedResult, Times]:
    """Evaluate a frame with both models, and mix."""
    plan = mixer.plan(frame, region)
    results, times = await timed_results(dispatcher, plan)
    return mixer.combine(plan, results), times
