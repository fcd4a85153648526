"""Requests that wait: for actions that take long, and for changes of jobs."""
