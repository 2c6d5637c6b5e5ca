"""Self-distillation in two stages: crops, masks, losses, schedules, the loop."""
