"""Real servers for the tests: MLflow's own, and a proxy that records every request and can break answers."""
