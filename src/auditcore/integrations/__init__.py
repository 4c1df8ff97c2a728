"""What runs inside other people's servers, so that they can be audited."""
