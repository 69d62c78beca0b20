"""Errors against depth: deeper plain networks train worse, residual ones do not."""
