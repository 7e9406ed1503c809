"""What a real run printed, held against an estimate: logs of servers, statistics of PyTorch, metrics of trainers."""
