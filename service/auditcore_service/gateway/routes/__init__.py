"""HTTP: parse, call a use case, answer. No decisions are made here."""
