"""Request -> view: one function a question, `answer(resident, request)`, run on the device thread."""
