"""The report of a study, from records, findings and figures alone. Imports no jax."""

from __future__ import annotations

from resnet_study.report.write import write_report

__all__ = ["write_report"]
