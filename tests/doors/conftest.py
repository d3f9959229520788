"""The browser's fixtures, for doors that people come through."""

from tests.doors.children import started
from tests.support.browser import browser, browser_type_launch_args, context, page, passkey, phone

__all__ = ["browser", "browser_type_launch_args", "context", "page", "passkey", "phone", "started"]
