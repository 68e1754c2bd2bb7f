"""From event to record, one path for each subject."""
