// Browsers run no modules from a file on disk. A classic script, which they do run.
"use strict";
if (location.protocol === "file:") {
  document.getElementById("model").textContent = "";
  const message = document.getElementById("message");
  message.textContent = "Open this folder through a web server: in it, run 'python3 -m http.server' and open " +
    "http://localhost:8000/ here.";
  message.hidden = false;
}
