"""What came of answers: outcomes, performance, alarms, candidate versions."""
