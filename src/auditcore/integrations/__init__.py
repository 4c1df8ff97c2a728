"""Code that runs inside model servers, so that they can be audited."""
