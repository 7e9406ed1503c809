"""The kinds of `InvalidScenarioError`: what is refused of what was asked, as facts. A module a topic; the sentences are
in `hfmem/report/refusals/`, a module for each of these."""
