"""Published training methods that run the loop several times or feed it; each under its catalogue id."""
