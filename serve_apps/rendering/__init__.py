"""From a durable job to a video: dispatcher, replicas, autoscaling."""
