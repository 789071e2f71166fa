from array_backends import *  # noqa: F403  # until every test imports array_backends
