"""Settings of the whole suite: threads, and how hard Hypothesis tries."""

import os

# Before torch or numpy is loaded, and inherited by subprocesses: the suite runs one worker a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

import tsn_hw.learn.progress

tsn_hw.learn.progress.FIRST_SECONDS = 1e6  # how slow a machine is, is no part of what a command says

# HYPOTHESIS_PROFILE=thorough make test: other examples in every run, and many more of them
settings.register_profile(
    "tests", derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("tests"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))
