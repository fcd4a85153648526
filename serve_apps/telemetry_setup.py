import logging
def configure(settings, component):
    logging.getLogger("serve_apps").setLevel(settings.log_level)
