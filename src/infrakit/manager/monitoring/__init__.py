"""What watches a replica: figures, health and readiness."""
