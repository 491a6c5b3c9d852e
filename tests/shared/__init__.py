"""What several tests use, in modules named by what they hold."""
