"""Policy gradients for rankers: policies over orders and replies, rewards, advantages, objectives, plans, mixes."""
