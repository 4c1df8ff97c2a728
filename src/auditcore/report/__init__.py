"""Reports: shard results become statistics, a verdict and an audit report."""
