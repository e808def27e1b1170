"""Pages over a model's weights."""

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
