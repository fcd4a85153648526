"""Runs code that reads hostile files in processes that can reach nothing else.

    ContainedCalls (client.py)   the caller's side: starts the server, sends calls, reads answers
      server.py                  imports once, then forks a warden and a child for each call
        box.py                   what the child may see and use, and how it shuts itself in
          landlock.py seccomp.py linux.py    the kernel's calls

A child serves one call and ends, so nothing of one file survives into the next.
"""
