"""The contract of aggregators, and what several of them share."""
