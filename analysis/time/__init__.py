"""Where a run's time went: trained, waited, saved, failed."""
