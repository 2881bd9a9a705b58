"""Timers: timerfd, setitimer of real and processor time, timer_create, alarm, sleep."""

from tests.workloads.images import Program
from tests.workloads.workload import Running, State


class Timers(Program):
    def started(self, container: Running) -> None:
        container.wait_until(lambda state: len(state.get("fired", ())) == 6)

    def check(self, before: State, container: Running) -> State:
        super().check(before, container)
        least = {name: times + (1 if name == "alarm" else 5) for name, times in before["fired"].items()}
        after = container.wait_until(
            lambda state: not state["ok"] or all(state["fired"][name] >= least[name] for name in least)
        )
        assert after["ok"], after
        return after


WORKLOAD = Timers("timers.py")
