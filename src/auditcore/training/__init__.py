"""Training of classifiers, so that what an audit has found can be remedied and compared."""
