"""The engine of claims: verdicts, intervals, selections, comparisons. Knows no phenomenon."""
