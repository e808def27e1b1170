"""The documentation, served by the program itself."""

from fastapi import Request, Response

from app.core import documents, offloop, pages
from app.core.answering import router as routes
from app.core.view import View

router = routes(include_in_schema=False)


class HeadingView(View):
    level: int
    number: str
    title: str
    anchor: str


class DocumentRef(View):
    name: str
    title: str


class DocumentView(View):
    documents: list[DocumentRef]
    name: str
    title: str
    headings: list[HeadingView]
    html: str


@router.get("/docs")
async def first(request: Request) -> Response:
    """The methods; the others stand beside."""
    return await named("methods", request)


@router.get("/docs/{name}")
async def named(name: str, request: Request) -> Response:
    view = await offloop.draw(_view, name, str(request.scope.get("root_path", "")).rstrip("/"))
    return pages.respond(request, view, template="server/documents.html", title=view.title)


def _view(name: str, root: str) -> DocumentView:
    shown = documents.document(name, root)
    return DocumentView(
        documents=[DocumentRef(name=each, title=documents.document(each, root).title) for each in documents.names()],
        name=shown.name,
        title=shown.title,
        headings=[HeadingView(**vars(heading)) for heading in shown.headings],
        html=shown.html,
    )
