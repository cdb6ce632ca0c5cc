"""Health, promises about time, alerts: one pass looks at everything, and tells the right person once."""
