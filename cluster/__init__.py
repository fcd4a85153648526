"""What training and serving share: settings, ids, storage, registry, state, and the embedded stack.

Nothing here knows about pixels or sound. Of the engine it imports ``m2dao.errors`` and ``m2dao.command_line`` only.
"""
