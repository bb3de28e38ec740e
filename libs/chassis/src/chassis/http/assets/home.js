const state = document.getElementById("health");
fetch("health")
  .then((response) => response.json())
  .then(({ status }) => {
    if (status) {
      state.textContent = status;
      state.className = status;
    }
  })
  .catch(() => {
    state.textContent = "no response";
    state.className = "degraded";
  });
