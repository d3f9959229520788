"""The browser's fixtures, for the tests of whole pages."""

from tests.support.browser import browser, browser_type_launch_args, context, page, passkey, phone

__all__ = ["browser", "browser_type_launch_args", "context", "page", "passkey", "phone"]
