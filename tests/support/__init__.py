"""What tests share: fakes that fail when a promise is broken, and real services."""
