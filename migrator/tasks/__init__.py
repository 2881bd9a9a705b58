"""Messages by Celery: the queue `control`, one queue for each host, and entry points of a few lines.

Messages are hints. Nothing here decides anything: SQL is the truth and the service room reads it.
"""
