"""What a search did and found: its study, course and confirmation, importance of settings."""
