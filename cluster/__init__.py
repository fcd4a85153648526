"""What training and serving share: settings, ids, storage, registry, job state, and the embedded stack.

Nothing here knows about pixels or sound. The only thing of ours that is imported from outside is ``m2dao.errors``.
"""
