"""What is asked and what is answered: pydantic models only, importable without torch."""
