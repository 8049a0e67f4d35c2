"""What people did before nets, a module a kind of data: each method takes opened data and returns its score (`bench.baselines`)."""
