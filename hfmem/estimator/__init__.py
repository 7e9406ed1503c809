"""Memory formulas. Knows no config key and no architecture by name: it sums what layers and tensor groups answer."""

from hfmem.estimator.inference import estimate
from hfmem.estimator.scenario import check, resolve
from hfmem.estimator.values import GROUPS, Estimate, Options, Scenario, Term

__all__ = ["GROUPS", "Estimate", "Options", "Scenario", "Term", "check", "estimate", "resolve"]
