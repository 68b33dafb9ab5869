"""Monitoring of a replica: metrics, liveness and readiness."""
