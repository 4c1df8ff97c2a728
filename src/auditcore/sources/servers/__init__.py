"""Model servers: their protocols, and how requests are sent. Needs no torch."""
