// A file of its own: the page's content security policy allows no script within it.
"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  filter: true,
  persistAuthorization: false,
  validatorUrl: null,
});
