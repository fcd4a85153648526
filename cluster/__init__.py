"""What training and serving share: settings, ids, storage, registry, state, use cases, stack.

Nothing here knows about pixels or sound. Of the engine it imports only ``m2dao.errors``, ``m2dao.command_line``,
``m2dao.files``, ``m2dao.formats``, ``m2dao.plots`` and ``m2dao.secrets``.
"""
