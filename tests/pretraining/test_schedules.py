"""Schedules against known numbers of both published forms."""

import pytest

from braindino.pretraining.schedules import Schedule

KNOWN = [
    (
        Schedule(0.0, 1e-3, 1e-6, warmup=10, total=100),
        {0: 0, 1: 1e-4, 9: 9e-4, 10: 1e-3, 11: 9.996888426e-4, 50: 5.795096267e-4, 98: 1.311157400e-6, 99: 1e-6},
    ),
    (
        Schedule(1.0, 1.0, 0.5, warmup=10, total=30, cosine=5),
        {0: 1, 10: 1, 11: 0.926777, 12: 0.75, 13: 0.573223, 14: 0.5, 15: 0.5, 29: 0.5},
    ),
    (
        Schedule(0.0, 0.0, 2.0, warmup=10, total=30, cosine=5),
        {9: 0, 10: 0, 11: 0.292893, 12: 1, 13: 1.707107, 14: 2, 29: 2},
    ),
    (Schedule(1.5, 1.5, 1.5, warmup=0, total=30, cosine=0), {0: 1.5, 29: 1.5}),
    (
        Schedule(0.0, 4e-3, 1e-6, warmup=10, total=100, form="open"),
        {
            0: 0,
            1: 4.444444444e-4,
            9: 4e-3,
            10: 4e-3,
            11: 3.998781959e-3,
            50: 2.347709531e-3,
            99: 2.218041375e-6,
            100: 1e-6,
        },
    ),
    (
        Schedule(0.04, 0.04, 0.4, warmup=0, total=100, form="open"),
        {0: 0.04, 1: 0.040088819, 50: 0.22, 99: 0.399911181, 100: 0.4},
    ),
    (
        Schedule(0.992, 0.992, 1.0, warmup=0, total=100, form="open"),
        {0: 0.992, 1: 0.992001974, 50: 0.996, 99: 0.999998026, 100: 1},
    ),
    (
        Schedule(0.04, 0.07, 0.07, warmup=30, total=100, form="open"),
        {0: 0.04, 1: 0.041034483, 15: 0.055517241, 29: 0.07, 30: 0.07, 99: 0.07},
    ),
    (
        Schedule(0.0, 1e-3, 1e-6, warmup=10, total=100, form="open", stretch=0.25),
        {11: 9.997792388e-4, 50: 6.829111045e-4, 99: 1e-6, 100: 1e-6},
    ),
]


@pytest.mark.parametrize(("schedule", "values"), KNOWN)
def test_known_values(schedule, values):
    got = {step: schedule.value(step) for step in values}
    assert got == pytest.approx(values, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("form", ["closed", "open"])
def test_shortest_phases(form):
    assert Schedule(1.0, 2.0, 3.0, warmup=1, total=1, form=form).value(0) == 1
    assert Schedule(1.0, 2.0, 3.0, warmup=1, total=2, form=form).value(1) == 2
    assert Schedule(1.0, 2.0, 3.0, warmup=0, total=0, form=form).value(0) == 3


@pytest.mark.parametrize(
    "settings",
    [{"warmup": -1}, {"warmup": 101}, {"cosine": -1}, {"cosine": 95}, {"stretch": -0.1}, {"stretch": 0.25}],
)
def test_impossible_schedules_are_refused(settings):
    with pytest.raises(ValueError, match=r"warmup and cosine|stretch"):
        Schedule(**{"start": 0.0, "peak": 1.0, "end": 0.0, "warmup": 10, "total": 100, **settings})
