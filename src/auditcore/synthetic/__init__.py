"""Images that are made on the machine and whose truth is known: objects on scenes, digits, planted shortcuts."""
