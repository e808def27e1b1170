"""Results drawn as Plotly figures: one function a chart, one theme. Nothing else imports plotly.

A figure names its colours as CSS variables (`var(--series-1)`): the page resolves them, so that one figure serves
the light and the dark theme. Where there is no page (export), `theme.resolved` does it.
"""
