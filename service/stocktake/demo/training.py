"""Really trains small scikit-learn models on the data sets that scikit-learn ships. Knows nothing of MLflow.

Every seed is fixed, so that two demonstrations show the same figures. scikit-learn is imported where it is used:
it belongs to the extra `demo`.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ONCOLOGY = "oncology/tumour-screening"
VISION = "vision/digit-reading"
SOURCING = "sourcing/wine-cultivars"
CLINIC = "clinic/diabetes-progression"
BOTANY = "botany/iris-species"
ONBOARDING = "sandbox/onboarding"
OLD_NOTEBOOKS = "sandbox/old-notebooks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """One data set, split once."""

    name: str
    digest: str  # of the values, as MLflow shows it: eight hex digits
    columns: tuple[str, ...]
    rows: int
    train_x: Any
    test_x: Any
    train_y: Any
    test_y: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One training as its author would log it."""

    experiment: str
    name: str
    data: Data | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)  # metrics by step
    tags: Mapping[str, str] = field(default_factory=dict)
    status: str = "FINISHED"
    parent: str | None = None  # name of the parent run
    days_ago: float = 1.0
    minutes: float = 4.0
    deleted: bool = False
    error: str | None = None
    model: Any = None  # the fitted estimator, where one is kept


def load(name: str) -> Data:
    """Load one of the data sets that come with scikit-learn; nothing is downloaded."""
    from sklearn import datasets, model_selection

    bunch = getattr(datasets, f"load_{name}")()
    parts = model_selection.train_test_split(bunch.data, bunch.target, test_size=0.3, random_state=7)
    return Data(
        name=name,
        digest=hashlib.sha256(bunch.data.tobytes() + bunch.target.tobytes()).hexdigest()[:8],
        columns=tuple(str(column) for column in bunch.feature_names),
        rows=len(bunch.target),
        train_x=parts[0],
        test_x=parts[1],
        train_y=parts[2],
        test_y=parts[3],
    )


def classify(data: Data, model: Any) -> dict[str, float]:
    """Fit a classifier and measure it on the part it has not seen."""
    from sklearn import metrics

    model.fit(data.train_x, data.train_y)
    guess = model.predict(data.test_x)
    return {
        "accuracy": float(metrics.accuracy_score(data.test_y, guess)),
        "f1_macro": float(metrics.f1_score(data.test_y, guess, average="macro")),
        "train_accuracy": float(model.score(data.train_x, data.train_y)),
    }


def regress(data: Data, model: Any) -> dict[str, float]:
    """Fit a regressor and measure it on the part it has not seen."""
    from sklearn import metrics

    model.fit(data.train_x, data.train_y)
    guess = model.predict(data.test_x)
    return {
        "rmse": math.sqrt(metrics.mean_squared_error(data.test_y, guess)),
        "mae": float(metrics.mean_absolute_error(data.test_y, guess)),
        "r2": float(metrics.r2_score(data.test_y, guess)),
    }


def _best(children: Sequence[Trained], metric: str) -> dict[str, float]:
    return {f"best_{metric}": max(child.metrics[metric] for child in children)}


def oncology() -> Iterator[Trained]:
    """A grid of logistic regressions under one parent, boosted trees with a figure by stage, two runs thrown away."""
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load("breast_cancer")
    children = []
    for number, strength in enumerate((0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
        figures = classify(data, model)
        children.append(
            Trained(
                experiment=ONCOLOGY,
                name=f"logreg-grid-{number:02d}",
                data=data,
                params={"model": "logistic_regression", "C": str(strength), "scaler": "standard", "max_iter": "500"},
                metrics=figures,
                parent="logreg-grid",
                days_ago=20 - number / 100,
                minutes=1.5,
                model=model if strength == 0.1 else None,
            )
        )
    yield Trained(
        experiment=ONCOLOGY,
        name="logreg-grid",
        data=data,
        params={"search": "grid", "parameter": "C", "candidates": str(len(children))},
        metrics=_best(children, "accuracy"),
        days_ago=20.1,
        minutes=190,
    )
    yield from children
    for depth, days in ((2, 14.0), (3, 13.5), (4, 9.0)):
        boosted = GradientBoostingClassifier(n_estimators=30, max_depth=depth, learning_rate=0.1, random_state=7)
        figures = classify(data, boosted)
        stages = [float((guess == data.test_y).mean()) for guess in boosted.staged_predict(data.test_x)]
        yield Trained(
            experiment=ONCOLOGY,
            name=f"boosted-depth-{depth}",
            data=data,
            params={
                "model": "gradient_boosting",
                "n_estimators": "30",
                "max_depth": str(depth),
                "learning_rate": "0.1",
            },
            metrics=figures,
            curves={"stage_accuracy": stages},
            tags={"review.state": "pending"} if depth == 3 else {},
            days_ago=days,
            minutes=12,
            model=boosted if depth != 4 else None,
        )
    forest = RandomForestClassifier(n_estimators=25, random_state=7)
    figures = classify(data, forest)
    for name, days in (("forest-first-try", 19.0), ("forest-wrong-labels", 18.5)):
        yield Trained(
            experiment=ONCOLOGY,
            name=name,
            data=data,
            params={"model": "random_forest", "n_estimators": "25"},
            metrics=figures,
            days_ago=days,
            deleted=True,
        )


def _epochs(data: Data, width: int, epochs: int, **arguments: Any) -> tuple[Any, list[float], str | None]:
    """Train a small network epoch by epoch; a network that blows up says so, as it would for anyone."""
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier((width,), random_state=7, **arguments)
    losses: list[float] = []
    try:
        for _ in range(epochs):
            network.partial_fit(data.train_x / 16.0, data.train_y, classes=range(10))
            losses.append(float(network.loss_))
    except ValueError as exc:
        return network, losses, str(exc)
    return network, losses, None


def vision() -> Iterator[Trained]:
    """Networks with a loss by epoch, one that diverged, one that was killed, one that still runs."""
    from sklearn.neighbors import KNeighborsClassifier

    data = load("digits")
    for width, days in ((16, 11.0), (32, 10.0), (64, 8.0)):
        network, losses, _ = _epochs(data, width, 12, learning_rate_init=0.01)
        yield Trained(
            experiment=VISION,
            name=f"mlp-{width}",
            data=data,
            params={"model": "mlp", "hidden_units": str(width), "epochs": "12", "learning_rate": "0.01"},
            metrics={"accuracy": float(network.score(data.test_x / 16.0, data.test_y))},
            curves={"loss": losses},
            days_ago=days,
            minutes=35,
            model=network if width != 16 else None,
        )
    _, losses, error = _epochs(data, 32, 8, solver="sgd", learning_rate_init=1e8)
    yield Trained(
        experiment=VISION,
        name="mlp-32-sgd",
        data=data,
        params={"model": "mlp", "hidden_units": "32", "solver": "sgd", "learning_rate": "1e8"},
        curves={"loss": [*losses, math.nan]},
        status="FAILED",
        error=error,
        days_ago=10.5,
        minutes=2,
    )
    _, losses, _ = _epochs(data, 96, 3, learning_rate_init=0.01)
    yield Trained(
        experiment=VISION,
        name="mlp-96-preempted",
        data=data,
        params={"model": "mlp", "hidden_units": "96", "epochs": "40", "learning_rate": "0.01"},
        curves={"loss": losses},
        status="KILLED",
        days_ago=7.0,
        minutes=9,
    )
    _, losses, _ = _epochs(data, 128, 12, learning_rate_init=0.005)
    yield Trained(
        experiment=VISION,
        name="mlp-128-overnight",
        data=data,
        params={"model": "mlp", "hidden_units": "128", "epochs": "12", "learning_rate": "0.005"},
        curves={"loss": losses},
        status="RUNNING",
        days_ago=0.6,
    )
    neighbours = KNeighborsClassifier(3)
    yield Trained(
        experiment=VISION,
        name="knn-3",
        data=data,
        metrics=classify(data, neighbours),
        params={"model": "k_neighbours", "k": "3"},
        days_ago=6.0,
    )


def sourcing() -> Iterator[Trained]:
    """A second search with parent and children, one of them thrown away."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    data = load("wine")
    children = []
    for number, (kernel, strength) in enumerate(
        (("linear", 0.1), ("linear", 1.0), ("rbf", 0.1), ("rbf", 1.0), ("rbf", 10.0), ("poly", 1.0))
    ):
        model = make_pipeline(StandardScaler(), SVC(C=strength, kernel=kernel, random_state=7))
        children.append(
            Trained(
                experiment=SOURCING,
                name=f"svm-{kernel}-{strength:g}",
                data=data,
                params={"model": "svm", "kernel": kernel, "C": str(strength)},
                metrics=classify(data, model),
                parent="svm-kernels",
                days_ago=16 - number / 100,
                minutes=2,
                deleted=kernel == "poly",
                model=model if (kernel, strength) == ("rbf", 1.0) else None,
            )
        )
    yield Trained(
        experiment=SOURCING,
        name="svm-kernels",
        data=data,
        params={"search": "list", "candidates": str(len(children))},
        metrics=_best(children, "f1_macro"),
        days_ago=16.1,
        minutes=150,
    )
    yield from children


def wine_forest() -> Trained:
    """The run that somebody starts while nobody looks."""
    from sklearn.ensemble import ExtraTreesClassifier

    data = load("wine")
    return Trained(
        experiment=SOURCING,
        name="extra-trees-20",
        data=data,
        params={"model": "extra_trees", "n_estimators": "20"},
        metrics=classify(data, ExtraTreesClassifier(n_estimators=20, random_state=7)),
        days_ago=0.0,
        minutes=0.0,
    )


def clinic() -> Iterator[Trained]:
    """Regressions; one of them logged what it should not have: a password, made up for this demonstration."""
    from sklearn.linear_model import ElasticNet, Ridge

    data = load("diabetes")
    for number, alpha in enumerate((0.01, 0.1, 0.5, 1.0, 5.0)):
        model = Ridge(alpha=alpha)
        yield Trained(
            experiment=CLINIC,
            name=f"ridge-{alpha:g}",
            data=data,
            params={"model": "ridge", "alpha": str(alpha)},
            metrics=regress(data, model),
            days_ago=12 - number / 10,
            model=model if alpha == 0.1 else None,
        )
    yield Trained(
        experiment=CLINIC,
        name="elastic-net",
        data=data,
        params={
            "model": "elastic_net",
            "alpha": "0.01",
            "l1_ratio": "0.5",
            "warehouse_password": "not-a-real-password",  # the inventory keeps a fingerprint, never this
        },
        tags={"data.url": "postgresql://loader:not-a-real-password@warehouse.example.com/clinic"},
        metrics=regress(data, ElasticNet(alpha=0.01, l1_ratio=0.5, random_state=7)),
        days_ago=5.0,
    )


def _trees(experiment: str, prefix: str, count: int, days_ago: float) -> Iterator[Trained]:
    from sklearn.tree import DecisionTreeClassifier

    data = load("iris")
    for number in range(count):
        model = DecisionTreeClassifier(max_depth=number % 4 + 1, min_samples_leaf=number // 4 + 1, random_state=7)
        yield Trained(
            experiment=experiment,
            name=f"{prefix}-{number + 1:02d}",
            data=data,
            params={key: str(value) for key, value in model.get_params().items() if value is not None},
            metrics=classify(data, model),
            days_ago=days_ago - number / 50,
            minutes=1,
        )


def botany() -> Iterator[Trained]:
    """A handful of trees."""
    yield from _trees(BOTANY, "tree", 4, 15.0)


def onboarding() -> Iterator[Trained]:
    """What newcomers log on their first day: plenty, and all alike."""
    yield from _trees(ONBOARDING, "exercise", 12, 21.0)


def old_notebooks() -> Iterator[Trained]:
    """An experiment that is already deleted when stocktake first looks."""
    yield from _trees(OLD_NOTEBOOKS, "notebook", 3, 60.0)


TEAMS: tuple[Callable[[], Iterator[Trained]], ...] = (
    oncology, vision, sourcing, clinic, botany, onboarding, old_notebooks,
)  # fmt: skip


def train_all() -> list[Trained]:
    """Everything that exists before stocktake's first look."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # half-trained networks are the point here
        return [trained for team in TEAMS for trained in team()]
