"""The dashboard at `/ui`: pages for people around the use cases that the API has, without rights of its own."""
