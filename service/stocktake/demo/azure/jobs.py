"""The jobs of one workspace as facts: which there are, in what state, with which children; and how they move in time.

A job is made from its index until somebody moves it. ARM's body, the MLflow run and the run-history document are
three views of the same facts (job_views.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from stocktake.demo.azure.seeded import PEOPLE, code_index, code_name, guid, mix, pick

TERMINAL = frozenset({"Completed", "Failed", "Canceled"})
#: What a job goes through, and how many seconds it stays there; a Running job stays as long as its own fate says.
PATH = (("NotStarted", 5), ("Queued", 40), ("Preparing", 60), ("Starting", 20), ("Running", 600), ("Finalizing", 15))
#: The types of jobs, each as often as it is named.
TYPES = ("Command",) * 12 + ("Sweep",) * 3 + ("Pipeline",) * 3 + ("AutoML", "Spark")
PARENTS = frozenset({"Sweep", "Pipeline", "AutoML"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One root job or child."""

    name: str
    index: int  # of the root job
    type: str
    status: str
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    experiment: int = 0
    by: str = PEOPLE[0]
    display: str = ""
    archived: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    number: int = 0  # among its siblings
    outputs: Mapping[str, str] = field(default_factory=dict)  # name -> data/NAME/versions/VERSION that it became
    reused: str | None = None  # the step whose outputs this one took over instead of running
    run: bool = True  # whether MLflow knows it
    run_status: str | None = None  # what MLflow says instead of what follows from the status
    since: datetime | None = None  # when it came into its status; set where it moves by itself
    fate: str = "Completed"
    compute: str | None = "cpu-cluster"  # where it runs; None: on serverless compute


class Jobs:
    """All jobs of a workspace, oldest first by index; lists show the newest first."""

    def __init__(
        self,
        *,
        seed: int,
        count: int,
        began: datetime,
        children: int,
        experiments: int,
        exotic: bool,
        live: int,
        types: Sequence[str] = TYPES,
    ) -> None:
        self.types = types
        self.seed, self.count, self.began = seed, count, began
        self.children_each, self.experiments, self.exotic = children, experiments, exotic
        self._added = 0
        self._moved: dict[int, Job] = {}
        self._names: dict[str, int] = {}  # of jobs that were added under a name of their own
        self._children: dict[str, dict[int, Job]] = {}  # children that moved or were spawned
        self._counts: dict[str, int] = {}
        self._gone: set[str] = set()
        for index in range(max(0, count - live), count):
            job = self.at(index)
            running = replace(job, status="Running", started=began, ended=None, since=began, fate="Completed")
            self._moved[index] = running

    @property
    def total(self) -> int:
        """How many there ever were."""
        return self.count + self._added

    def at(self, index: int) -> Job:
        """The job of an index as it is now."""
        return self._moved.get(index) or self._made(index)

    def there(self, index: int) -> bool:
        """Whether it was not deleted."""
        return not self._gone or self.at(index).name not in self._gone

    def find(self, name: str) -> Job | None:
        """A root job or a child by its name."""
        if name in self._gone:
            return None
        index = self._names.get(name)
        if index is None:
            index = code_index(self.seed, name)
        if index is not None and index < self.total and self.at(index).name == name:
            return self.at(index)
        child = self._child(name)
        return None if child is None or child.parent in self._gone else child

    def newest(self, below: int | None = None) -> Iterator[Job]:
        """Root jobs from the newest on, or from below an index."""
        for index in range((self.total if below is None else below) - 1, -1, -1):
            if self.there(index):
                yield self.at(index)

    def children(self, parent: Job) -> int:
        """How many children a job has."""
        return self._counts.get(parent.name, self.children_each if parent.type in PARENTS else 0)

    def child(self, parent: Job, number: int) -> Job:
        """One child as it is now."""
        moved = self._children.get(parent.name, {}).get(number)
        if moved is not None:
            return moved
        step = parent.type == "Pipeline"
        length = timedelta(seconds=30 + mix(self.seed, parent.index, number) % 900)
        started = parent.started or parent.created
        ended = started + length if parent.status in TERMINAL else None
        donor = self._donor(parent) if step and number == 0 else None
        return Job(
            name=self._child_name(parent, number),
            index=parent.index,
            type="Step" if step else "Trial",
            status=parent.status if parent.status in TERMINAL else "Running",
            created=parent.created + timedelta(seconds=number),
            started=started,
            ended=started if donor and ended else ended,
            experiment=parent.experiment,
            by=parent.by,
            compute=parent.compute,
            display=("prepare", "train", "evaluate", "report")[number % 4] if step else f"{parent.display}_{number}",
            parent=parent.name,
            number=number,
            reused=donor,
        )

    # ---- acts -------------------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> Job:
        """Add a job under its own name; its index is the next one."""
        if self.find(job.name) is not None:
            raise ValueError(f"job {job.name} is there already")
        job = replace(job, index=self.total)
        self._added += 1
        self._moved[job.index] = job
        self._names[job.name] = job.index
        return job

    def put(self, job: Job) -> None:
        """Replace the facts of a job or child."""
        if job.parent is None:
            self._moved[job.index] = job
        else:
            self._children.setdefault(job.parent, {})[job.number] = job

    def spawn(self, parent: Job, count: int, now: datetime, status: str) -> list[str]:
        """Give a job more children."""
        first = self.children(parent)
        self._counts[parent.name] = first + count
        for number in range(first, first + count):
            one = self.child(parent, number)
            self.put(replace(one, status=status, created=now, started=None, ended=None, reused=None))
        return [self.child(parent, number).name for number in range(first, first + count)]

    def remove(self, name: str) -> None:
        """Delete a job and its children, as only a support case does."""
        self._gone.add(name)

    def tick(self, now: datetime) -> list[Job]:
        """Move what moves by itself; return what changed."""
        changed = []
        for job in list(self._moved.values()):
            moved = advanced(job, now, lambda one: 120 + mix(self.seed, one.index) % PATH[4][1])
            if moved is not job:
                self.put(moved)
                changed.append(moved)
        return changed

    # ---- from the seed ----------------------------------------------------------------------------------------------

    def _made(self, index: int) -> Job:
        number = mix(self.seed, index)
        created = self.began - timedelta(minutes=7 * (self.count - index), seconds=number % 400)
        started = created + timedelta(seconds=20 + (number >> 9) % 300)
        status = ("Completed",) * 17 + ("Failed",) * 2 + ("Canceled",)
        kind = self.types[(number >> 18) % len(self.types)]
        if self.exotic:
            kind = {5: "Labeling", 50: "FineTuning"}.get(index % 97, kind)
        name = code_name(self.seed, index)
        return Job(
            name=name,
            index=index,
            type=kind,
            status=status[(number >> 27) % 20],
            created=created,
            started=started,
            ended=started + timedelta(seconds=30 + (number >> 36) % 6000),
            experiment=index % self.experiments,
            by=pick(PEOPLE, number >> 50),
            display=name.rsplit("_", 1)[0].replace("_", " "),
            archived=index % 23 == 7,
            tags={"team": pick(("vision", "churn", "pricing"), number >> 44)} if number & 1 else {},
        )

    def _donor(self, parent: Job) -> str | None:
        """The step of an earlier pipeline that a pipeline's first step takes over: every third one does."""
        if parent.index % 3 or parent.index >= self.count:
            return None
        for earlier in range(parent.index - 1, max(-1, parent.index - 60), -1):
            if earlier % 3 and self.at(earlier).type == "Pipeline":
                return self._child_name(self.at(earlier), 0)
        return None

    def _child_name(self, parent: Job, number: int) -> str:
        if parent.type != "Pipeline":
            return f"{parent.name}_{number}"
        text = guid(self.seed, parent.index, number)
        return f"{parent.index:08x}-{number:04x}-{text[14:]}"

    def _child(self, name: str) -> Job | None:
        if len(name) == 36 and name[8] == name[13] == "-":
            try:
                index, number = int(name[:8], 16), int(name[9:13], 16)
            except ValueError:
                return None
            parent = self.at(index) if index < self.total else None
        else:
            stem, _, last = name.rpartition("_")
            parent = self.find(stem) if stem and last.isdigit() else None
            number = int(last) if last.isdigit() else 0
        if parent is None or parent.parent is not None or number >= self.children(parent):
            return None
        child = self.child(parent, number)
        return child if child.name == name else None


def advanced(job: Job, now: datetime, running: Callable[[Job], int]) -> Job:
    """A job that moves by itself, where it stands at a time; the very same object when nothing changed."""
    stages = dict(PATH)
    while job.since is not None and job.status in stages:
        stay = running(job) if job.status == "Running" else stages[job.status]
        at = job.since + timedelta(seconds=stay)
        if at > now:
            break
        names = [name for name, _ in PATH]
        place = names.index(job.status) + 1
        following = names[place] if place < len(names) else job.fate
        job = replace(job, status=following, since=None if following in TERMINAL else at)
        if following == "Running":
            job = replace(job, started=at)
        if following in TERMINAL:
            job = replace(job, ended=at)
    return job
